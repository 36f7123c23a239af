// From an empty subscription to everything that an event needs. docs/deploy.md explains every choice;
// docs/decisions/0010-order-of-resources-and-roles.md explains the order.
targetScope = 'subscription'

@minLength(1)
@maxLength(64)
@description('Name of the azd environment; part of the names of all resources.')
param environmentName string

@description('Region of the function app, its storage and its logs. Only regions with Flex Consumption.')
@allowed([
  'australiaeast'
  'australiasoutheast'
  'brazilsouth'
  'canadacentral'
  'centralindia'
  'centralus'
  'eastasia'
  'eastus'
  'eastus2'
  'francecentral'
  'germanywestcentral'
  'italynorth'
  'japaneast'
  'koreacentral'
  'northcentralus'
  'northeurope'
  'norwayeast'
  'southafricanorth'
  'southcentralus'
  'southeastasia'
  'southindia'
  'spaincentral'
  'swedencentral'
  'uaenorth'
  'uksouth'
  'ukwest'
  'westcentralus'
  'westeurope'
  'westus'
  'westus2'
  'westus3'
])
@metadata({ azd: { type: 'location' } })
param location string

@description('Object id of whoever deploys; may manage events from a laptop. Empty: nobody is given that role.')
param principalId string = ''

@allowed(['User', 'ServicePrincipal'])
param principalType string = 'User'

@description('Python of the function app.')
@allowed(['3.11', '3.12', '3.13'])
param pythonVersion string = '3.13'

@description('Memory of one instance, in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Requests that one instance serves at once. The platform assumes 1 for Python when this is not set.')
@minValue(1)
@maxValue(1000)
param perInstanceConcurrency int = 50

@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances that are kept warm and paid for all day. Raise for the event day.')
@minValue(0)
@maxValue(100)
param alwaysReadyInstances int = 0

@description('More app settings, as an object of names and texts; see docs/configuration.md.')
param proxySettings object = {}

@description('Comma-separated resource ids of Azure OpenAI accounts that exist already. No account is created then, unless openAiLocations is set too.')
param openAiResourceIds string = ''

@description('Give the app its role on the existing accounts. Turn off when you may not, and have their owner do it.')
param assignOpenAiRoles bool = true

@description('Comma-separated regions: one Azure OpenAI account is created in each. Empty: one, in the region of the app.')
param openAiLocations string = ''

@description('The model of the default deployment, used when modelDeployments is empty.')
param openAiModel string = 'gpt-5.4'
param openAiModelVersion string = '2026-03-05'
param openAiModelSku string = 'GlobalStandard'

@description('Thousands of tokens per minute of the default deployment, in each region.')
@minValue(1)
param openAiModelCapacity int = 30

@description('Deployments, each {name, model, version, sku, capacity}: created in every new account, and expected in every existing one.')
param modelDeployments array = []

@description('Put storage and the new Azure OpenAI accounts behind private endpoints.')
param vnetEnabled bool = false

@description('With vnetEnabled: comma-separated public IP addresses from which events are managed.')
param adminIpAddresses string = ''

@description('Logs are cut off for the day after this many GB.')
@minValue(1)
param logDailyGigabytes int = 1

@description('Monthly amount, in the currency of the subscription, at which budgetEmail is told. 0: no budget.')
@minValue(0)
param budgetAmount int = 0
param budgetEmail string = ''

@description('First day of the month in which the budget began; kept from the first deployment on.')
param budgetStart string = ''

@description('Computed: a budget must begin on the first day of a month.')
param firstOfMonth string = utcNow('yyyy-MM-01')

var resourceToken = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName, application: 'azure-openai-event-proxy' }
var functionAppName = 'func-api-${resourceToken}'
var deploymentContainerName = 'app-package-${take(functionAppName, 32)}-${take(resourceToken, 7)}'

var existingAccountIds = (empty(openAiResourceIds) ? [] : split(replace(openAiResourceIds, ' ', ''), ','))
var homeRegion = (empty(openAiResourceIds) ? [location] : [])
var openAiRegions = (empty(openAiLocations) ? homeRegion : split(replace(openAiLocations, ' ', ''), ','))
var openAiAccountNames = [for region in openAiRegions: 'cog-${resourceToken}-${region}']
var defaultDeployments = [
  {
    name: openAiModel
    model: openAiModel
    version: openAiModelVersion
    sku: openAiModelSku
    capacity: openAiModelCapacity
  }
]
var deployments = (empty(modelDeployments) ? defaultDeployments : modelDeployments)
var budgetStartDate = (empty(budgetStart) ? firstOfMonth : budgetStart)
var publicOpenAi = (vnetEnabled ? 'Disabled' : 'Enabled')

// Host and worker need 470 MB, and 3.85 bytes for each byte of a request body. The host reads a body before the app can
// refuse it, so the host gets a limit too, a little above the app's. docs/configuration.md explains the rule.
var proxyMaxBodyText = string(proxySettings.?PROXY_MAX_BODY_BYTES ?? '')
var proxyMaxBodyBytes = int(empty(proxyMaxBodyText) ? '7500000' : proxyMaxBodyText)
var hostBodyBytes = proxyMaxBodyBytes + 500000
var bytesAtOnce = hostBodyBytes * perInstanceConcurrency
var maxBytesAtOnce = (instanceMemoryMB - 470) * 100000000 / 385
var neededMB = 470 + (bytesAtOnce * 385 + 99999999) / 100000000
var fittingBodyBytes = min(proxyMaxBodyBytes, maxBytesAtOnce - 500000)
var fittingConcurrency = maxBytesAtOnce / (fittingBodyBytes + 500000)
var fittingMemory = (neededMB <= 2048 ? ', or INSTANCE_MEMORY_MB to 2048' : (neededMB <= 4096 ? ', or INSTANCE_MEMORY_MB to 4096' : ''))
var memoryFault = 'PER_INSTANCE_CONCURRENCY=${perInstanceConcurrency} with PROXY_MAX_BODY_BYTES=${proxyMaxBodyBytes} needs ${neededMB} MB, but INSTANCE_MEMORY_MB is ${instanceMemoryMB}'
var memoryRemedy = 'Set PER_INSTANCE_CONCURRENCY to ${fittingConcurrency} and PROXY_MAX_BODY_BYTES (in PROXY_SETTINGS) to ${fittingBodyBytes} at most${fittingMemory}'
var checkedHostBodyBytes = (bytesAtOnce > maxBytesAtOnce ? fail('${memoryFault}. ${memoryRemedy}') : hostBodyBytes)

resource rg 'Microsoft.Resources/resourceGroups@2024-11-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'app/identity.bicep' = {
  name: 'identity'
  scope: rg
  params: {
    name: 'id-api-${resourceToken}'
    location: location
    tags: tags
  }
}

module monitoring 'app/monitoring.bicep' = {
  name: 'monitoring'
  scope: rg
  params: {
    workspaceName: 'log-${resourceToken}'
    componentName: 'appi-${resourceToken}'
    location: location
    tags: tags
    dailyGigabytes: logDailyGigabytes
  }
}

module storage 'app/storage.bicep' = {
  name: 'storage'
  scope: rg
  params: {
    name: 'st${resourceToken}'
    location: location
    tags: tags
    deploymentContainerName: deploymentContainerName
    isPrivate: vnetEnabled
    allowedIpAddresses: adminIpAddresses
  }
}

module openAi 'app/openai.bicep' = [for (region, i) in openAiRegions: {
  name: 'openai-${region}'
  scope: rg
  params: {
    name: openAiAccountNames[i]
    location: region
    tags: tags
    deployments: deployments
    publicNetworkAccess: publicOpenAi
  }
}]

// Every role is assigned before the app exists, so that its first start has its rights.
module roles 'app/roles.bicep' = {
  name: 'roles'
  scope: rg
  params: {
    storageAccountName: storage.outputs.name
    componentName: monitoring.outputs.componentName
    appPrincipalId: identity.outputs.principalId
    adminPrincipalId: principalId
    adminPrincipalType: principalType
  }
}

module openAiRoles 'app/openai-role.bicep' = [for (region, i) in openAiRegions: {
  name: 'openai-role-${region}'
  scope: rg
  params: {
    accountName: openAi[i].outputs.name
    appPrincipalId: identity.outputs.principalId
    assignRole: true
  }
}]

module existingOpenAiRoles 'app/openai-role.bicep' = [for (id, i) in existingAccountIds: {
  name: 'openai-role-existing-${i}'
  scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  params: {
    accountName: last(split(id, '/'))
    appPrincipalId: identity.outputs.principalId
    assignRole: assignOpenAiRoles
  }
}]

module network 'app/network.bicep' = if (vnetEnabled) {
  name: 'network'
  scope: rg
  params: {
    name: 'vnet-${resourceToken}'
    location: location
    tags: tags
    storageAccountName: storage.outputs.name
    openAiAccountNames: openAiAccountNames
  }
  dependsOn: [
    openAi
  ]
}

module api 'app/api.bicep' = {
  name: 'api'
  scope: rg
  params: {
    name: functionAppName
    planName: 'plan-${resourceToken}'
    location: location
    tags: tags
    identityName: identity.outputs.name
    storageAccountName: storage.outputs.name
    deploymentContainerName: deploymentContainerName
    componentName: monitoring.outputs.componentName
    pythonVersion: pythonVersion
    instanceMemoryMB: instanceMemoryMB
    perInstanceConcurrency: perInstanceConcurrency
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    subnetId: (vnetEnabled ? network!.outputs.appSubnetId : '')
    hostBodyBytes: checkedHostBodyBytes
    moreSettings: proxySettings
  }
  dependsOn: [
    roles
    openAiRoles
    existingOpenAiRoles
  ]
}

module budget 'app/budget.bicep' = if (budgetAmount > 0 && !empty(budgetEmail)) {
  name: 'budget'
  scope: rg
  params: {
    name: 'budget-${environmentName}'
    amount: budgetAmount
    email: budgetEmail
    startDate: budgetStartDate
  }
}

// azd keeps these in the environment and hands them to the hooks. None is a key. The client id of the app's
// identity is left out on purpose: on a laptop it would make the sign-in look for that identity.
output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = rg.name
output AZURE_FUNCTION_NAME string = api.outputs.name
output SERVICE_API_NAME string = api.outputs.name
output SERVICE_API_URI string = api.outputs.uri
output PROXY_TABLES__tableServiceUri string = storage.outputs.tableEndpoint
output AZURE_OPENAI_DEPLOYMENTS array = deployments
output AZURE_OPENAI_ENDPOINTS array = [for (region, i) in openAiRegions: openAiRoles[i].outputs.endpoint]
output AZURE_OPENAI_EXISTING_ENDPOINTS array = [for (id, i) in existingAccountIds: existingOpenAiRoles[i].outputs.endpoint]
output BUDGET_START string = budgetStartDate
