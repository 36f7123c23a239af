// Creates everything that an event needs in an empty subscription. docs/deploy.md explains the settings,
// docs/decisions/0010-order-of-resources-and-roles.md the order of the resources. Settings have the names that an
// organiser types, so that Azure's own messages about a wrong value have them too.
targetScope = 'subscription'

import {
  checkAccountId
  checkAddress
  checkBytes
  checkDeployments
  checkEmail
  checkModel
  checkMonth
  checkRegion
  checkTags
  listOf
  textOr
} from 'app/checks.bicep'
import { accountKind, appSettings, modelDeployment, tagSet } from 'app/types.bicep'

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
param PROXY_PYTHON_VERSION string = '3.13'

@description('Memory of one instance, in MB.')
@allowed([512, 2048, 4096])
param INSTANCE_MEMORY_MB int = 2048

@description('Requests that one instance serves at the same time. Without it, the platform uses 1 for Python.')
@minValue(1)
@maxValue(1000)
param PER_INSTANCE_CONCURRENCY int = 50

@minValue(1)
@maxValue(1000)
param MAXIMUM_INSTANCES int = 40

@description('Instances that are always warm, and always paid for. Raise it for the day of the event.')
@minValue(0)
@maxValue(100)
param ALWAYS_READY_INSTANCES int = 0

@description('What a deployment does with running requests. RollingUpdate, which lets them end, is a preview.')
@allowed(['Recreate', 'RollingUpdate'])
param UPDATE_STRATEGY string = 'Recreate'

@description('Spread instances and tables over the zones of the region. Choose it before the first deployment.')
param ZONE_REDUNDANT bool = false

@description('Tags for every resource, besides those that azd needs: a JSON object of names and texts.')
param TAGS tagSet = {}

@description('More app settings: a JSON object of names and texts. docs/configuration.md lists them.')
param PROXY_SETTINGS appSettings = {}

@description('Comma-separated resource ids of existing Azure OpenAI accounts. With these, new accounts are created only in OPENAI_LOCATIONS.')
param OPENAI_RESOURCE_IDS string = ''

@description('Assign the role on the existing accounts to the app. Set false if you lack the right, and ask the owner of the accounts to do it.')
param OPENAI_ASSIGN_ROLES bool = true

@description('Kind of the accounts, new and existing. AIServices also takes models of other publishers, and needs a wider role.')
param OPENAI_KIND accountKind = 'OpenAI'

@description('Comma-separated regions. Each gets a new Azure OpenAI account. Empty: one account in the region of the app.')
param OPENAI_LOCATIONS string = ''

@minLength(1)
@maxLength(64)
@description('Model of the default deployment, used if MODEL_DEPLOYMENTS is empty.')
param OPENAI_MODEL string = 'gpt-5.4'
param OPENAI_MODEL_VERSION string = '2026-03-05'
param OPENAI_MODEL_SKU string = 'GlobalStandard'

@description('Capacity of the default deployment in each region, in thousands of tokens per minute.')
@minValue(1)
param OPENAI_MODEL_CAPACITY int = 30

@description('Model deployments. They are created in every new account; every existing account must have them.')
param MODEL_DEPLOYMENTS modelDeployment[] = []

@description('Put storage and Azure OpenAI behind private endpoints.')
param VNET_ENABLED bool = false

@description('With vnetEnabled: comma-separated public IP addresses from which events can be managed.')
param ADMIN_IP_ADDRESSES string = ''

@description('Daily limit of the logs, in GB. Logs above it are dropped.')
@minValue(1)
param LOG_DAILY_GB int = 1

@description('One mail address, for alerts and the budget. Empty: no alerts.')
param ALERT_EMAIL string = ''

@description('Call the app from three regions every five minutes, and send a mail if two get no response.')
param AVAILABILITY_TEST bool = false

@description('Monthly budget, in the currency of the subscription. ALERT_EMAIL gets a mail at 80 %. 0: no budget.')
@minValue(0)
param BUDGET_AMOUNT int = 0

@description('First day of the month in which the budget began. azd keeps it from the first deployment.')
param BUDGET_START string = ''

@description('Do not set: the default is the first day of this month.')
param firstOfMonth string = utcNow('yyyy-MM-01')

var resourceToken = toLower(uniqueString(subscription().id, environmentName, location))
var tags = union({ application: 'azure-openai-event-proxy' }, checkTags(TAGS), { 'azd-env-name': environmentName })

// Names are known before the deployment, so that a what-if shows every resource.
var functionAppName = 'func-api-${resourceToken}'
var identityName = 'id-api-${resourceToken}'
var storageAccountName = 'st${resourceToken}'
var workspaceName = 'log-${resourceToken}'
var componentName = 'appi-${resourceToken}'
var deploymentContainerName = 'app-package-${take(functionAppName, 32)}-${take(resourceToken, 7)}'

var adminAddresses = [for address in listOf(ADMIN_IP_ADDRESSES): checkAddress(address)]
var existingAccountIds = [for id in listOf(OPENAI_RESOURCE_IDS): checkAccountId(id)]
var defaultRegions = empty(existingAccountIds) ? [location] : []
var givenRegions = [for region in listOf(OPENAI_LOCATIONS): checkRegion(region)]
var openAiRegions = empty(givenRegions) ? defaultRegions : givenRegions
var openAiAccountNames = [for region in openAiRegions: 'cog-${resourceToken}-${region}']

var defaultModel = checkModel(textOr(OPENAI_MODEL, 'gpt-5.4'))
var defaultDeployments = [
  {
    name: defaultModel
    model: defaultModel
    version: trim(OPENAI_MODEL_VERSION)
    sku: textOr(OPENAI_MODEL_SKU, 'GlobalStandard')
    capacity: OPENAI_MODEL_CAPACITY
  }
]
var givenDeployments = checkDeployments(MODEL_DEPLOYMENTS)
var otherModels = filter(givenDeployments, item => (item.?format ?? 'OpenAI') != 'OpenAI')
var otherModelNames = join(map(otherModels, item => item.name), ', ')
var checkedDeployments = OPENAI_KIND == 'OpenAI' && !empty(openAiRegions) && !empty(otherModels)
  ? fail('MODEL_DEPLOYMENTS: ${otherModelNames}: an account for OpenAI models does not take this format. Set OPENAI_KIND to AIServices, or use the format OpenAI')
  : givenDeployments
var deployments = empty(checkedDeployments) ? defaultDeployments : checkedDeployments

var warmInstances = ALWAYS_READY_INSTANCES > MAXIMUM_INSTANCES
  ? fail('ALWAYS_READY_INSTANCES=${ALWAYS_READY_INSTANCES} is more than MAXIMUM_INSTANCES=${MAXIMUM_INSTANCES}. Lower the first, or raise the second')
  : ALWAYS_READY_INSTANCES

var budgetStartDate = empty(BUDGET_START) ? firstOfMonth : checkMonth(BUDGET_START)
var mailAddress = checkEmail(trim(ALERT_EMAIL))
var testedAddress = AVAILABILITY_TEST && empty(mailAddress)
  ? fail('AVAILABILITY_TEST=true needs an address for its mails. Set ALERT_EMAIL too. Example: organiser@example.com')
  : mailAddress
var budgetEmail = BUDGET_AMOUNT > 0 && empty(mailAddress)
  ? fail('BUDGET_AMOUNT=${BUDGET_AMOUNT} needs an address for its mails. Set ALERT_EMAIL too. Example: organiser@example.com')
  : mailAddress

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
  map(items(PROXY_SETTINGS), setting => setting.key),
  name => !empty(filter(reservedSettings, reserved => startsWith(toLower(name), toLower(reserved))))
)
var checkedSettings = empty(refusedSettings)
  ? PROXY_SETTINGS
  : fail('PROXY_SETTINGS must not contain ${join(refusedSettings, ', ')}: the deployment sets these itself. Remove them. Example: {"PROXY_CACHE_SECONDS": "10"}')

// The host and the worker need 470 MB, and 3.85 bytes for each byte of a request body. The host reads a body before
// the app can reject it, so the host has its own limit, a little above the app's. See docs/configuration.md.
var proxyMaxBodyText = PROXY_SETTINGS.?PROXY_MAX_BODY_BYTES ?? ''
var proxyMaxBodyBytes = checkBytes(empty(proxyMaxBodyText) ? '7500000' : proxyMaxBodyText)
var hostBodyBytes = proxyMaxBodyBytes + 500000
var bytesAtOnce = hostBodyBytes * PER_INSTANCE_CONCURRENCY
var maxBytesAtOnce = (INSTANCE_MEMORY_MB - 470) * 100000000 / 385
var neededMB = 470 + (bytesAtOnce * 385 + 99999999) / 100000000
var fittingBodyBytes = min(proxyMaxBodyBytes, maxBytesAtOnce - 500000)
var fittingConcurrency = maxBytesAtOnce / (fittingBodyBytes + 500000)
var fittingMemory = neededMB <= 2048 ? '2048' : '4096'
var memoryOption = neededMB <= 4096 ? ', or INSTANCE_MEMORY_MB to ${fittingMemory}' : ''
var memoryFault = 'PER_INSTANCE_CONCURRENCY=${PER_INSTANCE_CONCURRENCY} with PROXY_MAX_BODY_BYTES=${proxyMaxBodyBytes} needs ${neededMB} MB, but INSTANCE_MEMORY_MB is ${INSTANCE_MEMORY_MB}'
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
    workspaceName: workspaceName
    componentName: componentName
    location: location
    tags: tags
    dailyGigabytes: LOG_DAILY_GB
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
    isPrivate: VNET_ENABLED
    zoneRedundant: ZONE_REDUNDANT
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
      kind: OPENAI_KIND
      deployments: deployments
      publicNetworkAccess: VNET_ENABLED ? 'Disabled' : 'Enabled'
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
      kind: OPENAI_KIND
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
      kind: OPENAI_KIND
      appPrincipalId: identity.outputs.principalId
      assignRole: OPENAI_ASSIGN_ROLES
      // Not the name: this assignment outlives `azd down`, and Azure does not let a new identity take it over.
      #disable-next-line what-if-short-circuiting
      assignmentSeed: identity.outputs.principalId
    }
  }
]

module network 'app/network.bicep' = if (VNET_ENABLED) {
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
    pythonVersion: PROXY_PYTHON_VERSION
    instanceMemoryMB: INSTANCE_MEMORY_MB
    perInstanceConcurrency: PER_INSTANCE_CONCURRENCY
    maximumInstanceCount: MAXIMUM_INSTANCES
    alwaysReadyInstances: warmInstances
    updateStrategy: UPDATE_STRATEGY
    zoneRedundant: ZONE_REDUNDANT
    subnetId: VNET_ENABLED ? network!.outputs.appSubnetId : ''
    hostBodyBytes: checkedHostBodyBytes
    proxySettings: checkedSettings
  }
  dependsOn: [
    roles
    openAiRoles
    existingOpenAiRoles
  ]
}

module alerts 'app/alerts.bicep' = if (!empty(testedAddress)) {
  name: 'alerts'
  scope: rg
  params: {
    location: location
    tags: tags
    email: testedAddress
    workspaceName: workspaceName
    componentName: componentName
    dailyGigabytes: LOG_DAILY_GB
    availabilityTest: AVAILABILITY_TEST
    appUrl: api.outputs.uri
  }
  dependsOn: [
    monitoring
  ]
}

module budget 'app/budget.bicep' = if (BUDGET_AMOUNT > 0) {
  name: 'budget'
  scope: rg
  params: {
    name: 'budget-${resourceToken}' // an environment's name can be too long for it, and have dots
    amount: BUDGET_AMOUNT
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
