// Creates everything that an event needs in an empty subscription. docs/deploy.md explains the settings,
// docs/decisions/0010-order-of-resources-and-roles.md the order of the resources.
targetScope = 'subscription'

import { appSettings, modelDeployment } from 'app/types.bicep'

@minLength(1)
@maxLength(64)
@description('Name of the azd environment. It is part of the resource names.')
param environmentName string

@description('Region of the function app, its storage and its logs. The list has the regions with Flex Consumption.')
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

@description('Object id of the person or pipeline that deploys. It gets the role to manage events. Empty: no such role is assigned.')
param principalId string = ''

@allowed(['User', 'ServicePrincipal'])
param principalType string = 'User'

@description('Python version of the function app.')
@allowed(['3.11', '3.12', '3.13'])
param pythonVersion string = '3.13'

@description('Memory of one instance, in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Requests that one instance serves at the same time. Without it, the platform uses 1 for Python.')
@minValue(1)
@maxValue(1000)
param perInstanceConcurrency int = 50

@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances that are always warm, and always paid for. Raise it for the day of the event.')
@minValue(0)
@maxValue(100)
param alwaysReadyInstances int = 0

@description('More app settings: a JSON object of names and texts. docs/configuration.md lists them.')
param proxySettings appSettings = {}

@description('Comma-separated resource ids of existing Azure OpenAI accounts. With these, new accounts are created only in openAiLocations.')
param openAiResourceIds string = ''

@description('Assign the role on the existing accounts to the app. Set false if you lack the right, and ask the owner of the accounts to do it.')
param assignOpenAiRoles bool = true

@description('Comma-separated regions. Each gets a new Azure OpenAI account. Empty: one account in the region of the app.')
param openAiLocations string = ''

@description('Model of the default deployment, used if modelDeployments is empty.')
param openAiModel string = 'gpt-5.4'
param openAiModelVersion string = '2026-03-05'
param openAiModelSku string = 'GlobalStandard'

@description('Capacity of the default deployment in each region, in thousands of tokens per minute.')
@minValue(1)
param openAiModelCapacity int = 30

@description('Model deployments. They are created in every new account; every existing account must have them.')
param modelDeployments modelDeployment[] = []

@description('Put storage and Azure OpenAI behind private endpoints.')
param vnetEnabled bool = false

@description('With vnetEnabled: comma-separated public IP addresses from which events can be managed.')
param adminIpAddresses string = ''

@description('Daily limit of the logs, in GB. Logs above it are dropped.')
@minValue(1)
param logDailyGigabytes int = 1

@description('Monthly budget, in the currency of the subscription. budgetEmail gets a mail at 80 %. 0: no budget.')
@minValue(0)
param budgetAmount int = 0
param budgetEmail string = ''

@description('First day of the month in which the budget began. azd keeps it from the first deployment.')
param budgetStart string = ''

@description('Do not set: the default is the first day of this month.')
param firstOfMonth string = utcNow('yyyy-MM-01')

var resourceToken = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName, application: 'azure-openai-event-proxy' }

// Names are known before the deployment, so that a what-if shows every resource.
var functionAppName = 'func-api-${resourceToken}'
var identityName = 'id-api-${resourceToken}'
var storageAccountName = 'st${resourceToken}'
var componentName = 'appi-${resourceToken}'
var deploymentContainerName = 'app-package-${take(functionAppName, 32)}-${take(resourceToken, 7)}'

// Lists: spaces, empty items and repetitions do not count. Azure ignores upper and lower case in ids and regions.
var givenAccountIds = union(filter(split(toLower(replace(openAiResourceIds, ' ', '')), ','), id => !empty(id)), [])
var givenRegions = union(filter(split(toLower(replace(openAiLocations, ' ', '')), ','), region => !empty(region)), [])
var adminAddresses = union(filter(split(replace(adminIpAddresses, ' ', ''), ','), address => !empty(address)), [])

var accountIdExample = '/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.CognitiveServices/accounts/NAME'
// In an id, /resourceGroups/ follows a subscription id of 36 characters.
func isInGroup(id string) bool => indexOf(id, '/resourcegroups/') == 51 && length(split(id, '/')) == 9
func isAccountId(id string) bool => isInGroup(id) && contains(id, '/providers/microsoft.cognitiveservices/accounts/')

var existingAccountIds = [
  for id in givenAccountIds: isAccountId(id)
    ? id
    : fail('OPENAI_RESOURCE_IDS: "${id}" is not the resource id of an Azure OpenAI account. Example: ${accountIdExample}')
]
var defaultRegions = empty(existingAccountIds) ? [location] : []
var openAiRegions = empty(givenRegions) ? defaultRegions : givenRegions
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
var deploymentNames = map(modelDeployments, item => toLower(item.name))
var namesAreUnique = length(union(deploymentNames, [])) == length(deploymentNames)
var givenDeployments = namesAreUnique
  ? modelDeployments
  : fail('MODEL_DEPLOYMENTS: every name must be unique. Names: ${join(deploymentNames, ', ')}. Example: [{"name": "chat", "model": "gpt-5.4"}]')
var deployments = empty(givenDeployments) ? defaultDeployments : givenDeployments

var budgetStartDate = empty(budgetStart) ? firstOfMonth : budgetStart

// The deployment sets these itself. Another value disconnects the app from its tables, its logs or its identity.
var reservedSettings = [
  'APPLICATIONINSIGHTS_'
  'AZURE_CLIENT_ID'
  'AzureWebJobsDisableHomepage'
  'AzureWebJobsStorage'
  'FUNCTIONS_'
  'PROXY_TABLES'
  'PYTHON_ENABLE_INIT_INDEXING'
]
var refusedSettings = filter(
  map(items(proxySettings), setting => setting.key),
  name => !empty(filter(reservedSettings, reserved => startsWith(toLower(name), toLower(reserved))))
)
var checkedSettings = empty(refusedSettings)
  ? proxySettings
  : fail('PROXY_SETTINGS must not contain ${join(refusedSettings, ', ')}: the deployment sets these itself. Remove them. Example: {"PROXY_CACHE_SECONDS": "10"}')

// The host and the worker need 470 MB, and 3.85 bytes for each byte of a request body. The host reads a body before
// the app can reject it, so the host has its own limit, a little above the app's. See docs/configuration.md.
var proxyMaxBodyText = proxySettings.?PROXY_MAX_BODY_BYTES ?? ''
var proxyMaxBodyBytes = int(empty(proxyMaxBodyText) ? '7500000' : proxyMaxBodyText)
var hostBodyBytes = proxyMaxBodyBytes + 500000
var bytesAtOnce = hostBodyBytes * perInstanceConcurrency
var maxBytesAtOnce = (instanceMemoryMB - 470) * 100000000 / 385
var neededMB = 470 + (bytesAtOnce * 385 + 99999999) / 100000000
var fittingBodyBytes = min(proxyMaxBodyBytes, maxBytesAtOnce - 500000)
var fittingConcurrency = maxBytesAtOnce / (fittingBodyBytes + 500000)
var fittingMemory = neededMB <= 2048 ? '2048' : '4096'
var memoryOption = neededMB <= 4096 ? ', or INSTANCE_MEMORY_MB to ${fittingMemory}' : ''
var memoryFault = 'PER_INSTANCE_CONCURRENCY=${perInstanceConcurrency} with PROXY_MAX_BODY_BYTES=${proxyMaxBodyBytes} needs ${neededMB} MB, but INSTANCE_MEMORY_MB is ${instanceMemoryMB}'
var memoryRemedy = 'Set PER_INSTANCE_CONCURRENCY to ${fittingConcurrency} and PROXY_MAX_BODY_BYTES (in PROXY_SETTINGS) to ${fittingBodyBytes} at most${memoryOption}'
var checkedHostBodyBytes = bytesAtOnce > maxBytesAtOnce ? fail('${memoryFault}. ${memoryRemedy}') : hostBodyBytes

resource rg 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'app/identity.bicep' = {
  name: 'identity'
  scope: rg
  params: {
    name: identityName
    location: location
    tags: tags
  }
}

module monitoring 'app/monitoring.bicep' = {
  name: 'monitoring'
  scope: rg
  params: {
    workspaceName: 'log-${resourceToken}'
    componentName: componentName
    location: location
    tags: tags
    dailyGigabytes: logDailyGigabytes
  }
}

module storage 'app/storage.bicep' = {
  name: 'storage'
  scope: rg
  params: {
    name: storageAccountName
    location: location
    tags: tags
    deploymentContainerName: deploymentContainerName
    isPrivate: vnetEnabled
    allowedIpAddresses: adminAddresses
  }
}

module openAi 'app/openai.bicep' = [
  for (region, i) in openAiRegions: {
    name: 'openai-${region}'
    scope: rg
    params: {
      name: openAiAccountNames[i]
      location: region
      tags: tags
      deployments: deployments
      publicNetworkAccess: vnetEnabled ? 'Disabled' : 'Enabled'
    }
  }
]

// Roles are assigned before the app exists, so that its first start has its rights.
module roles 'app/roles.bicep' = {
  name: 'roles'
  scope: rg
  params: {
    storageAccountName: storageAccountName
    componentName: componentName
    identityName: identityName
    adminPrincipalId: principalId
    adminPrincipalType: principalType
  }
  dependsOn: [
    identity
    monitoring
    storage
  ]
}

module openAiRoles 'app/openai-role.bicep' = [
  for (region, i) in openAiRegions: {
    name: 'openai-role-${region}'
    scope: rg
    params: {
      accountName: openAiAccountNames[i]
      appPrincipalId: identity.outputs.principalId
      assignRole: true
      assignmentSeed: identityName
    }
    dependsOn: [
      openAi
    ]
  }
]

module existingOpenAiRoles 'app/openai-role.bicep' = [
  for (id, i) in existingAccountIds: {
    name: 'openai-role-existing-${i}'
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
    params: {
      accountName: last(split(id, '/'))
      appPrincipalId: identity.outputs.principalId
      assignRole: assignOpenAiRoles
      // Not the name: this assignment outlives `azd down`, and Azure does not let a new identity take it over.
      #disable-next-line what-if-short-circuiting
      assignmentSeed: identity.outputs.principalId
    }
  }
]

module network 'app/network.bicep' = if (vnetEnabled) {
  name: 'network'
  scope: rg
  params: {
    name: 'vnet-${resourceToken}'
    location: location
    tags: tags
    storageAccountName: storageAccountName
    openAiAccountNames: openAiAccountNames
    existingOpenAiAccountIds: existingAccountIds
  }
  dependsOn: [
    openAi
    storage
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
    identityName: identityName
    storageAccountName: storageAccountName
    deploymentContainerName: deploymentContainerName
    componentName: componentName
    pythonVersion: pythonVersion
    instanceMemoryMB: instanceMemoryMB
    perInstanceConcurrency: perInstanceConcurrency
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    subnetId: vnetEnabled ? network!.outputs.appSubnetId : ''
    hostBodyBytes: checkedHostBodyBytes
    proxySettings: checkedSettings
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

// azd saves the outputs in the environment and gives them to the hooks. None is a key. The client id of the app's
// identity is missing on purpose: on a laptop, AZURE_CLIENT_ID would make `manage.py` sign in as that identity.
output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = rg.name
output AZURE_FUNCTION_NAME string = api.outputs.name
output SERVICE_API_NAME string = api.outputs.name
output SERVICE_API_URI string = api.outputs.uri
output PROXY_TABLES__tableServiceUri string = storage.outputs.tableEndpoint
output AZURE_OPENAI_DEPLOYMENTS modelDeployment[] = deployments
output AZURE_OPENAI_ENDPOINTS string[] = [for (region, i) in openAiRegions: openAiRoles[i].outputs.endpoint]
output AZURE_OPENAI_EXISTING_ENDPOINTS string[] = [
  for (id, i) in existingAccountIds: existingOpenAiRoles[i].outputs.endpoint
]
output BUDGET_START string = budgetStartDate
